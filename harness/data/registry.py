"""The sources of text by name. To add one: write its file, add its line."""

SOURCES: dict[str, str] = {
    "stdlib": "harness.data.stdlib",
    "files": "harness.data.files",
    "hub": "harness.data.hub",
}
"""What a study file calls it -> the module whose `open_source(config)` gives its `Source`."""
