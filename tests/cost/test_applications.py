"""Tests that compare the MACs of networks in keras.applications with the HLO and with their papers."""

import keras
import pytest
from hlo import hlo_macs

from invact.cost.count import count_macs

# Published multiply-adds in millions, and the relative tolerance: papers round, and some do not include the
# classifier.
PUBLISHED = {
    # He et al., 2015, arXiv:1512.03385, table 1 ("FLOPs (multiply-adds)"), and section 4.1 for VGG.
    "ResNet50": (3_800, 0.02),
    "ResNet101": (7_600, 0.01),
    "ResNet152": (11_300, 0.01),
    "VGG16": (15_300, 0.02),
    "VGG19": (19_600, 0.01),
    # Howard et al., 2017, arXiv:1704.04861, table 6.
    "MobileNet": (569, 0.001),
    # Sandler et al., 2018, arXiv:1801.04381, table 4.
    "MobileNetV2": (300, 0.01),
    # Howard et al., 2019, arXiv:1905.02244, table 3.
    "MobileNetV3Large": (219, 0.02),
    # Tan and Le, 2019, arXiv:1905.11946, table 2; they call multiply-adds FLOPS.
    "EfficientNetB0": (390, 0.02),
    "EfficientNetB1": (700, 0.02),
    "EfficientNetB2": (1_000, 0.02),
    "EfficientNetB3": (1_800, 0.04),
    # Zoph et al., 2017, arXiv:1707.07012, tables 2 and 3.
    "InceptionV3": (5_720, 0.01),
    "Xception": (8_380, 0.01),
    "InceptionResNetV2": (13_200, 0.01),
    "NASNetLarge": (23_800, 0.01),
    "NASNetMobile": (564, 0.01),
    # Liu et al., 2022, arXiv:2201.03545, table 1.
    "ConvNeXtTiny": (4_500, 0.01),
    "ConvNeXtSmall": (8_700, 0.01),
}

# The default run has one network. The others take minutes: pytest -m slow tests/cost/test_applications.py
QUICK = ["MobileNetV2"]
SLOW = [
    "ResNet50",
    "MobileNet",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "VGG16",
    "EfficientNetB0",
    "Xception",
    "ConvNeXtTiny",
    "InceptionV3",
    "ResNet50V2",
    "DenseNet121",
    "EfficientNetV2B0",
    "VGG19",
    "NASNetMobile",
    "EfficientNetB1",
    "ResNet101",
    "EfficientNetB2",
    "ResNet152",
    "InceptionResNetV2",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB3",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "ConvNeXtSmall",
    "NASNetLarge",
    "ResNet101V2",
]


@pytest.mark.parametrize("name", QUICK + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW])
def test_macs_agree_with_hlo_and_with_the_paper(name):
    # MobileNetV3 is the only one with an open image size by default.
    size = {"input_shape": (224, 224, 3)} if name.startswith("MobileNetV3") else {}
    model = getattr(keras.applications, name)(weights=None, **size)
    cost = count_macs(model)
    print(f"{name:20} {model.input_shape} {cost.macs:>15,} {cost.params:>12,} {cost.activation_bytes:>12,}")
    assert cost.macs == hlo_macs(model) > 0
    assert cost.params == model.count_params()
    assert cost.relu_macs == cost.macs
    millions, close = PUBLISHED.get(name, (cost.macs / 1e6, 0))
    assert cost.macs / 1e6 == pytest.approx(millions, rel=close)


# The slow cases differ from the quick ones only in the width.
@pytest.mark.parametrize(
    ("alpha", "millions"),
    [
        (1.0, 568.74),
        pytest.param(0.75, 325.40, marks=pytest.mark.slow),
        pytest.param(0.5, 149.50, marks=pytest.mark.slow),
        (0.25, 41.03),
    ],
)
def test_mobilenet_agrees_with_its_paper(alpha, millions):
    # Howard et al., 2017, arXiv:1704.04861, table 6: 569, 325, 149 and 41 million mult-adds.
    network = keras.applications.MobileNet(weights=None, alpha=alpha)
    cost = count_macs(network)
    assert round(cost.macs / 1e6, 2) == millions
    assert cost.params == network.count_params()
