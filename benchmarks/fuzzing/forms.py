"""Every form of file that the project reads."""

from __future__ import annotations

from benchmarks.fuzzing import annotation_forms, image_forms, list_forms, network_forms, run_forms
from benchmarks.fuzzing.form import Form

FORMS: dict[str, Form] = {
    form.name: form
    for module in (image_forms, annotation_forms, list_forms, run_forms, network_forms)
    for form in module.FORMS
}
