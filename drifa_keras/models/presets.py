"""Named configurations of the networks: arguments, no weights."""

from drifa_keras.models.baselines import (
    MTFMA,
    CAFNet,
    CAFSegNet,
    GLoRIAFusion,
    GLoRIASegNet,
    MTFMASegNet,
    MTTUNet,
    MTTUSegNet,
    SegNet,
    SingleModalityNet,
    UNet,
)
from drifa_keras.models.drifa_net import DRIFANet
from drifa_keras.models.drifa_segnet import DRIFASegNet
from drifa_keras.models.mail_net import MAILNet
from drifa_keras.models.robust_mail_net import RobustMAILNet

_TINY = {
    "filters": (16, 32, 64),
    "stem": "small",
    "dropout_after": (1,),
    "norm_momentum": 0.9,
}
# With 16 groups of 16 channels no share of the one filter in a group can be random.
_MAIL_TINY = {**_TINY, "groups": 4}

# A comparator has dropout where its original has, and before its heads.
_COMPARATOR_TINY = {
    "filters": (16, 32, 64),
    "stem": "small",
    "norm_momentum": 0.9,
}

_SEGNET_TINY = {
    "filters": (16, 32, 64),
    "convolutions": (2, 2, 2),
    "norm_momentum": 0.9,
}

_PRESETS = {
    "drifa_resnet18": {
        "class": DRIFANet,
        "description": "DRIFA-Net of the paper.",
        "arguments": {},
    },
    "drifa_resnet18_released": {
        "class": DRIFANet,
        "description": "DRIFA-Net of the authors' code.",
        "arguments": {
            "mifa": {"local_window": None, "shared_fc": True},
            "fusion": "every_block",
            "dropout_after": ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)),
            "final_mfa": False,
        },
    },
    "drifa_inception_v3": {
        "class": DRIFANet,
        "description": "DRIFA-Net on Inception-v3: 75 px or more.",
        "arguments": {"backbone": "inception_v3"},
    },
    "drifa_tiny": {
        "class": DRIFANet,
        "description": "Small: 32 px, CPUs, demos.",
        "arguments": _TINY,
    },
    "mail": {
        "class": MAILNet,
        "description": "MAIL, without the quirks of its code.",
        "arguments": {},
    },
    "mail_released": {
        "class": MAILNet,
        "description": "MAIL of the authors' code.",
        "arguments": {"released": True},
    },
    "robust_mail": {
        "class": RobustMAILNet,
        "description": "Robust-MAIL: random filters, zero-mean noise.",
        "arguments": {},
    },
    "robust_mail_released": {
        "class": RobustMAILNet,
        "description": "Robust-MAIL of the authors' code: noise alone.",
        "arguments": {"released": True, "random_ratio": 0.0},
    },
    "mail_tiny": {
        "class": MAILNet,
        "description": "MAIL at the size of drifa_tiny.",
        "arguments": _MAIL_TINY,
    },
    "robust_mail_tiny": {
        "class": RobustMAILNet,
        "description": "Robust-MAIL at the size of drifa_tiny.",
        "arguments": _MAIL_TINY,
    },
    "drifa_segnet": {
        "class": DRIFASegNet,
        "description": "DRIFA-Net on SegNet: segmentation.",
        "arguments": {},
    },
    "drifa_segnet_tiny": {
        "class": DRIFASegNet,
        "description": "DRIFA-SegNet at the size of drifa_tiny.",
        "arguments": _SEGNET_TINY,
    },
    "segnet": {
        "class": SegNet,
        "description": "SegNet of stacked modalities: a baseline.",
        "arguments": {},
    },
    "segnet_tiny": {
        "class": SegNet,
        "description": "SegNet at the size of drifa_segnet_tiny.",
        "arguments": _SEGNET_TINY,
    },
    "unet": {
        "class": UNet,
        "description": "U-Net of stacked modalities: a baseline.",
        "arguments": {},
    },
    "unet_tiny": {
        "class": UNet,
        "description": "U-Net for 32 px.",
        "arguments": {"filters": (16, 32, 64, 128), "norm_momentum": 0.9},
    },
    "mttu_segnet": {
        "class": MTTUSegNet,
        "description": "Adapted from MTTU-Net: segmentation.",
        "arguments": {},
    },
    "mttu_segnet_tiny": {
        "class": MTTUSegNet,
        "description": "The same at the size of drifa_segnet_tiny.",
        "arguments": {
            "filters": (16, 32, 64, 128),
            "blocks": (1, 1, 1, 1),
            "units": 64,
            "depth": 2,
            "heads": 4,
            "norm_momentum": 0.9,
        },
    },
    "gloria_segnet": {
        "class": GLoRIASegNet,
        "description": "Adapted from GLoRIA: segmentation.",
        "arguments": {},
    },
    "gloria_segnet_tiny": {
        "class": GLoRIASegNet,
        "description": "The same at the size of drifa_segnet_tiny.",
        "arguments": {**_SEGNET_TINY, "units": 64},
    },
    "caf_segnet": {
        "class": CAFSegNet,
        "description": "Adapted from CAF: segmentation.",
        "arguments": {},
    },
    "caf_segnet_tiny": {
        "class": CAFSegNet,
        "description": "The same at the size of drifa_segnet_tiny.",
        "arguments": _SEGNET_TINY,
    },
    "mtf_ma_segnet": {
        "class": MTFMASegNet,
        "description": "Adapted from MTF with MA: segmentation.",
        "arguments": {},
    },
    "mtf_ma_segnet_tiny": {
        "class": MTFMASegNet,
        "description": "The same at the size of drifa_segnet_tiny.",
        "arguments": {**_SEGNET_TINY, "units": 64},
    },
    "gloria": {
        "class": GLoRIAFusion,
        "description": "Adapted from GLoRIA: a comparator.",
        "arguments": {},
    },
    "gloria_tiny": {
        "class": GLoRIAFusion,
        "description": "The same at the size of drifa_tiny.",
        "arguments": {**_COMPARATOR_TINY, "units": 64},
    },
    "mttu_net": {
        "class": MTTUNet,
        "description": "Adapted from MTTU-Net: a comparator.",
        "arguments": {},
    },
    "mttu_net_tiny": {
        "class": MTTUNet,
        "description": "The same at the size of drifa_tiny.",
        "arguments": {
            **_COMPARATOR_TINY,
            "units": 64,
            "depth": 2,
            "heads": 4,
            "hidden_units": (64, 32),
        },
    },
    "caf": {
        "class": CAFNet,
        "description": "Adapted from CAF: a comparator.",
        "arguments": {},
    },
    "caf_tiny": {
        "class": CAFNet,
        "description": "The same at the size of drifa_tiny.",
        "arguments": _COMPARATOR_TINY,
    },
    "mtf_ma": {
        "class": MTFMA,
        "description": "Adapted from MTF with MA: a comparator.",
        "arguments": {},
    },
    "mtf_ma_tiny": {
        "class": MTFMA,
        "description": "The same at the size of drifa_tiny.",
        "arguments": {**_COMPARATOR_TINY, "units": 64},
    },
    "late_concat": {
        "class": DRIFANet,
        "description": "Plain ResNet-18s, concatenated: a baseline.",
        "arguments": {"mfa": False, "mifa": False},
    },
    "late_concat_tiny": {
        "class": DRIFANet,
        "description": "The same at the size of drifa_tiny.",
        "arguments": {**_TINY, "mfa": False, "mifa": False},
    },
    "single": {
        "class": SingleModalityNet,
        "description": "A plain ResNet-18 for each task: a baseline.",
        "arguments": {},
    },
    "single_tiny": {
        "class": SingleModalityNet,
        "description": "The same at the size of drifa_tiny.",
        "arguments": _TINY,
    },
}


def presets():
    """Lists the presets.

    Returns:
        Dict of preset name to a one-line description.
    """
    return {name: preset["description"] for name, preset in _PRESETS.items()}


def preset_class(name):
    """Returns the model class of a preset."""
    return _find(name)["class"]


def preset_arguments(name, cls):
    """Returns the constructor arguments of a preset of class `cls`."""
    preset = _find(name)
    if not issubclass(preset["class"], cls):
        raise ValueError(
            f"Preset {name!r} belongs to {preset['class'].__name__}, not to "
            f"{cls.__name__}. Use `{preset['class'].__name__}.from_preset`."
        )
    return dict(preset["arguments"])


def _find(name):
    if name not in _PRESETS:
        raise ValueError(
            f"Unknown preset {name!r}. Presets are {sorted(_PRESETS)}; "
            "`drifa models` describes them."
        )
    return _PRESETS[name]
