"""Where asdf finds the schemas of the data models."""

from importlib.resources import files

from asdf.resource import DirectoryResourceMapping

#: Beginning of the URIs of all schemas.
SCHEMA_URI = "asdf://iris.tmt.org/drs/schemas/"


def get_resource_mappings() -> list[DirectoryResourceMapping]:
    """Schemas by URI, for the entry point `asdf.resource_mappings`."""
    folder = files("irisdrs.shared.data") / "schemas"
    return [DirectoryResourceMapping(folder, SCHEMA_URI, filename_pattern="*.schema.yaml")]
