"""How evidence is measured."""

from pydantic import BaseModel, Field


class ValidateConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Validate"):
    """How evidence is measured."""

    confidence: float = Field(
        0.95,
        ge=0.5,
        le=0.999,
        description="Of every interval. Higher widens them, and makes an accuracy budget harder to keep.",
        json_schema_extra={"position": 0},
    )
    max_examples: int = Field(
        0,
        ge=0,
        description="Test examples to measure on, drawn; 0 takes all. More narrows the intervals and takes longer.",
        json_schema_extra={"position": 1},
    )
    latency_rounds: int = Field(
        500,
        ge=5,
        le=100_000,
        description="How often each file is timed. More narrows the speed-up's interval and sharpens p99.",
        json_schema_extra={"position": 2},
    )
    warmup_rounds: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Calls before timing begins. More lets caches, allocators and the processor's clock settle.",
        json_schema_extra={"position": 3},
    )
    latency_seconds: float = Field(
        20,
        gt=0,
        le=3600,
        description="Longest timing of one target's files at one batch size; when it is over, fewer rounds were made, "
        "and files that are slow to open were opened less often. More lets slow models have all their rounds.",
        json_schema_extra={"position": 4},
    )
    throughput_batch: int = Field(
        64,
        ge=1,
        le=8192,
        description="Examples in a call when throughput is measured. More uses the processor better and takes memory.",
        json_schema_extra={"position": 5},
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads that a runtime may use. More is faster for large models, and noisier beside others.",
        json_schema_extra={"position": 6},
    )
    metric: str = Field(
        "auto",
        pattern=r"^[A-Za-z_-][\w.:]*$",
        description="What decides, in the evidence, the budget, a promotion and monitoring: accuracy, top_5, "
        "balanced_accuracy, f1_macro, f1_micro, roc_auc, average_precision, mean_iou, log_loss, label_accuracy; r2, "
        "mae, rmse, smape, quantile_0.9; or package.module:function of yours, with a minus before it if less is "
        "better. auto: accuracy or R².",
        json_schema_extra={"position": 7},
    )

    metrics: dict[str, str] = Field(
        {},
        description="Of a model with several outputs: what decides for each, by the output's name, such as "
        "{kind: f1_macro, box: mae}; those that are left out take validate.metric.",
        json_schema_extra={"position": 8},
    )

    def metric_of(self, head: str) -> str:
        """The metric of an output, by its name."""
        return self.metrics.get(head, self.metric)

    @property
    def called(self) -> bool:
        """Whether the metric is a function of the user's own: what it gives only calling it tells."""
        return any(":" in metric for metric in (self.metric, *self.metrics.values()))
