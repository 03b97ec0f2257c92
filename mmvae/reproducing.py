"""Making a file again from the note in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmvae.generation import VAE
from mmvae.samples import new_file, read_note


def reproduce(
    path: str | Path, model: str | Path | None = None, out: str | Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Make a written file's observation again from the note in it; returns the new file's path and the note.

    model: the model's folder, by default the one the note names. out: by default reproduced-NAME beside the file.
    Raises ValueError, FileNotFoundError, or FileExistsError rather than overwrite a file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}'")
    made = read_note(path)
    if not (model or made["model"]):
        raise ValueError(f"{path}: made by a model that was never saved, so it cannot be made again")
    if not model and not Path(made["model"]).is_dir():
        raise FileNotFoundError(f"{path} was made by '{made['model']}', which is not here: say --model FOLDER")
    vae = VAE.load(model or made["model"], overrides=made["settings"])
    made["model"] = str(vae.folder)
    written = new_file(out or path.with_name(f"reproduced-{path.name}"), path.suffix)
    raw, modality = vae.remake(made), vae.modalities[made["modality"]]
    modality.write(raw, written)
    modality.tag(written, json.dumps(made))
    return written, made
