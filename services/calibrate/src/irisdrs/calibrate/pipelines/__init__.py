"""Pipelines: the order of steps on one screen."""


def get_steps() -> list[tuple[str, str, bool]]:
    """Steps and pipelines for stpipe: class, alias, whether it is a pipeline (entry point `stpipe.steps`)."""
    steps = "irisdrs.calibrate.steps"
    return [
        ("irisdrs.calibrate.pipelines.image2.Image2Pipeline", "iris_image2", True),
        (f"{steps}.dq_init_step.DqInitStep", "dq_init", False),
        (f"{steps}.dark_sub_step.DarkSubStep", "dark_sub", False),
        (f"{steps}.flat_field_step.FlatFieldStep", "flat_field", False),
        (f"{steps}.gain_scale_step.GainScaleStep", "gain_scale", False),
        (f"{steps}.sky_sub_step.SkySubStep", "sky_sub", False),
        (f"{steps}.assign_wcs_step.AssignWcsStep", "assign_wcs", False),
    ]
