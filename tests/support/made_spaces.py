"""Parts of search spaces."""

MINE = "package.module:function"


STAGED = {
    "depth": {"low": 1, "high": 3},
    "activation": {"choices": ["relu", "inverse"], "per_stage": True},
}
