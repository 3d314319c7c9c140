"""The pair rule beside the other ways to integers that are right on every processor: what each costs, and gains."""
