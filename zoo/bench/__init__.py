"""Speed, measured side by side with other libraries: candidates take turns in one process, figures are medians."""

SUITES = {
    "core": "zoo.bench.core",
    "text": "zoo.bench.text",
    "vision": "zoo.bench.vision",
    "lm": "zoo.bench.lm",
    "attend": "zoo.bench.kernels",
    "protein": "zoo.bench.protein",
    "music": "zoo.bench.music",
}
