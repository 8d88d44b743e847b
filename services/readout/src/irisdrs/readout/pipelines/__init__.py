"""Pipelines: the order of steps on one screen."""


def get_steps() -> list[tuple[str, str, bool]]:
    """Steps and pipelines for stpipe: class, alias, whether it is a pipeline (entry point `stpipe.steps`)."""
    steps = "irisdrs.readout.steps"
    return [
        ("irisdrs.readout.pipelines.readout.IrisReadout", "iris_readout", True),
        (f"{steps}.rejection_step.RejectionStep", "rejection", False),
        (f"{steps}.ramp_fit_step.RampFitStep", "ramp_fit", False),
    ]
