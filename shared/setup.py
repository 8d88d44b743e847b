"""Puts ``irisdrs_crds.pth`` beside the packages: Python runs it at every start, wherever this is installed.

Everything else about the distribution is in ``pyproject.toml``. A file beside the packages is what setuptools has no
setting for: a wheel takes it from the build folder, an editable wheel has none and gets it added.
"""

import shutil
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

STARTUP = Path("irisdrs_crds.pth")


class BuildWithStartup(build_py):
    """Copies the modules, and the startup file beside them."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            shutil.copy2(STARTUP, Path(self.build_lib) / STARTUP)

    def get_source_files(self) -> list[str]:
        """The startup file belongs to the sources, too."""
        return [*super().get_source_files(), str(STARTUP)]


class EditableWithStartup(editable_wheel):
    """Makes the wheel that points to this folder, and adds the startup file; pip writes it into its record."""

    def run(self) -> None:
        """Build."""
        super().run()
        for wheel in Path(self.dist_dir).glob("irisdrs_shared-*.whl"):
            with zipfile.ZipFile(wheel, "a") as archive:
                if STARTUP.name not in archive.namelist():
                    archive.write(STARTUP, STARTUP.name)


setup(cmdclass={"build_py": BuildWithStartup, "editable_wheel": EditableWithStartup})
