"""The registry of modalities: built in, registered in process, or declared by installed packages."""

from __future__ import annotations

from mmvae.core.registry import Registry
from mmvae.modalities.contract import Modality

modalities: Registry[Modality] = Registry(
    "modality",
    {
        "image": "mmvae.modalities.image:Image",
        "text": "mmvae.modalities.text:Text",
        "audio": "mmvae.modalities.audio:Audio",
    },
    group="mmvae.modalities",
)
register = modalities.register
