"""Libraries' chatter kept off the screen: imported first, as TensorFlow reads its environment once."""

import logging
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # converters tell of every pass
warnings.filterwarnings("ignore")
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that a model was not compiled
