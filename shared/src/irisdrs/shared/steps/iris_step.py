"""What all steps and pipelines of IRIS share: how stpipe opens, names, describes and saves their models."""

import contextlib
import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from crds.core.exceptions import CrdsError
from stpipe import Pipeline, Step
from stpipe.exceptions import StpipeExitException

from irisdrs.shared import data as datamodels
from irisdrs.shared.crds import register
from irisdrs.shared.crds.names import is_reference_name
from irisdrs.shared.crds.registration import OBSERVATORY
from irisdrs.shared.data.fits import open_model, to_bytes
from irisdrs.shared.data.models import ImageModel, IrisModel, ReferenceModel
from irisdrs.shared.errors import Fatal, IrisError, MissingReference, WrongShape

Reference = TypeVar("Reference", bound=ReferenceModel)

#: Level and kind at the end of a product id, which a step's own suffix replaces.
_LEVEL_AND_KIND = re.compile(r"-L[0123]-[a-z][a-z0-9]*$")


class IrisStep(Step):
    """A step of IRIS. Takes a path or a model and gives a new model; what it was given stays as it is."""

    spec = """
    output_ext = string(default='.fits')  # Default type of output
    """

    def run(self, *args: Any) -> Any:
        """As stpipe's; after an error of ours `strun` ends with 1 and without a traceback."""
        try:
            return super().run(*args)
        except StpipeExitException:
            raise  # from a step of a pipeline
        except IrisError as error:
            raise _ending_strun(type(error))(error.message, remedy=error.remedy) from error

    def image(self, source: Any) -> ImageModel:
        """A new image of what the step is given: own metadata, the same arrays until they are replaced.

        Raises
        ------
        CorruptObject
            If it is no readable file of an IRIS data model.
        Fatal
            If its pixels are no rates.
        """
        model = self.open_model(source)
        tree = {**model.instance, "meta": copy.deepcopy(model.instance["meta"])}
        image = ImageModel(tree)
        unit = image.meta.bunit_data
        if unit is not None and not unit.endswith("/s"):
            raise Fatal(
                f"The pixels are in {unit}, and what is calibrated are rates, DN/s.",
                remedy="Give a frame of rates; of ramps, what `iris readout fit` makes without --coadd sum.",
            )
        return image

    def reference(self, image: ImageModel, kind: str, model_class: type[Reference]) -> Reference:
        """The reference of a type: the override if there is one, else the one that CRDS chooses.

        Raises
        ------
        MissingReference
            If CRDS knows none.
        CorruptObject
            If it cannot be read.
        WrongShape
            If its pixels are not those of the image.
        """
        found = self.get_reference_file(image, kind)
        if isinstance(found, IrisModel):
            model = found
        elif found in ("N/A", ""):
            raise MissingReference(
                f"CRDS knows no {kind} reference for this configuration: {image.get_crds_parameters()}.",
                remedy=f"Deliver one, or give a file with --steps.{self.name}.override_{kind}.",
            )
        else:
            model = open_model(found, model_class)
        if model.shape != image.shape:
            raise WrongShape(f"The {kind} reference is {model.shape}, the image {image.shape} pixels.")
        return model

    def complete(self, image: ImageModel) -> ImageModel:
        """Write down that the step was done."""
        setattr(image.meta.cal_step, self.class_alias, "COMPLETE")
        return image

    def finalize_result(self, result: Any, reference_files_used: list[tuple[str, str]]) -> None:
        """Name the references that were used, never with the folder that they were read from, and what chose them."""
        for kind, uri in reference_files_used:
            getattr(result.meta.ref_file, kind).name = f"crds://{Path(uri).name}"
        if any(uri.startswith("crds://") for _, uri in reference_files_used):
            from stpipe import crds_client  # noqa: PLC0415 - the client takes most of a second to import

            result.meta.ref_file.crds.context_used = crds_client.get_context_used(OBSERVATORY)

    def get_reference_file(self, input_file: Any, reference_file_type: str) -> Any:
        """As stpipe's, with the observatory known to CRDS.

        Raises
        ------
        Fatal
            If the rules of CRDS name what is no file of its cache.
        """
        if self.get_ref_override(reference_file_type) is not None:
            return super().get_reference_file(input_file, reference_file_type)
        with _asking_crds():
            found = super().get_reference_file(input_file, reference_file_type)
        if found != "N/A":
            _check_place(found)
        return found

    def save_model(
        self,
        model: IrisModel,
        suffix: str | None = None,
        idx: object = None,
        output_file: str | None = None,
        force: bool = False,
        **components: object,
    ) -> str | None:
        """Save by the one writer of FITS, where stpipe's naming scheme says."""
        output_file = output_file or self.output_file
        if not (force or self.save_results or output_file):
            return None
        path = Path(self.make_output_path(basepath=output_file, suffix=suffix, idx=idx, **components))
        path.write_bytes(to_bytes(model))
        return str(path)

    @classmethod
    def get_config_from_reference(
        cls, dataset: Any, disable: bool | None = None, crds_observatory: str | None = None
    ) -> Any:
        """No parameters: CRDS holds none for IRIS, so it is not even asked."""
        return cls._empty_config()

    @classmethod
    def _datamodels_open(cls, init: Any, **kwargs: Any) -> IrisModel:
        model: IrisModel = datamodels.open(init, **kwargs)
        return model

    def default_suffix(self) -> str:
        """The step's alias."""
        return str(self.class_alias)

    @staticmethod
    def remove_suffix(name: str) -> tuple[str, str]:
        """A product id without its level and kind; the separator is that of product ids."""
        return _LEVEL_AND_KIND.sub("", name), "-"

    @staticmethod
    def get_stpipe_loggers() -> tuple[str, ...]:
        """Loggers that stpipe may configure: its own and ours, never the root logger of who calls it."""
        return ("stpipe", "irisdrs", "CRDS")


def _check_place(found: str) -> None:
    """The client hands out whatever a mapping names, also a path to elsewhere."""
    from crds.core import utils  # noqa: PLC0415 - as above

    name = Path(found).name
    if not is_reference_name(name) or Path(found) != Path(utils.get_locator_module(OBSERVATORY).locate_file(name)):
        raise Fatal(
            f"The rules of CRDS name {found!r}, which is no file of its cache.",
            remedy="Find out who wrote the mappings in CRDS_PATH; use another context.",
        )


class IrisPipeline(IrisStep, Pipeline):
    """A pipeline of IRIS: its `process` is the list of its steps, in order."""

    def _precache_references(self, input_file: Any) -> None:
        by_crds = any(self.get_ref_override(kind) is None for kind in self.reference_file_types)
        with _asking_crds() if by_crds else contextlib.nullcontext():
            super()._precache_references(input_file)


@contextlib.contextmanager
def _asking_crds() -> Iterator[None]:
    """Let the `crds` client know the observatory; without a cache or a context it ends the process, or fails.

    Raises
    ------
    MissingReference
        Instead.
    """
    register()
    try:
        yield
    except (CrdsError, SystemExit) as error:
        reason = "there is no cache" if isinstance(error, SystemExit) else error
        where = " ".join(f"{name}={os.environ.get(name, '')!r}" for name in ("CRDS_PATH", "CRDS_CONTEXT"))
        raise MissingReference(
            f"CRDS cannot choose references with {where}: {reason}.",
            remedy="Set CRDS_PATH to a CRDS cache, CRDS_CONTEXT to none or one of its own, or override each reference.",
        ) from error


def _ending_strun(kind: type[IrisError]) -> Any:
    """An error's class that `strun` knows as well: who calls a step from Python catches the same as ever.

    It crosses the boundary of a process as what it was.
    """

    def reduced(self: IrisError) -> tuple[object, ...]:
        return IrisError.__reduce__(kind(self.message, remedy=self.remedy))

    return type(kind.__name__, (kind, StpipeExitException), {"exit_status": 1, "__reduce__": reduced})
