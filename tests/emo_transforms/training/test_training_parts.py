"""The small parts of pretraining against references of their own."""

from __future__ import annotations

import copy
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score
from torch import nn
from torchmetrics.functional import concordance_corrcoef
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation, gaussian_blur

from emobeam.emo_transforms.storage import OutputError
from emobeam.emo_transforms.training.fitting import FitPlan, fit, mixed_seed, seeded
from emobeam.emo_transforms.training.images.face_images import EMOTIONS, FaceImages
from emobeam.emo_transforms.training.images.image_loader import (
    FaceTransform,
    ImageLoader,
    ImagenetTransform,
    PlainTransform,
)
from emobeam.emo_transforms.training.images.pixels import (
    AUTHORS,
    FrameAugmentation,
    augment,
    erase,
    normalise,
    to_float,
)
from emobeam.emo_transforms.training.pretraining.affect_metrics import affect_figures
from emobeam.emo_transforms.training.pretraining.affect_pretraining import affect_loss, class_weights
from emobeam.emo_transforms.training.pretraining.recipe import PRETRAIN_RECIPES, learning_rate, pretrain_recipe
from emobeam.emo_transforms.training.pretraining.sharpness_aware import sam_step
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.training.drawn_faces import write_faces


def test_a_sam_step_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    x, y, rho, rate = torch.randn(16, 3), torch.randn(16, 1), 0.1, 0.05
    network = nn.Linear(3, 1)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    weight, bias = network.weight.detach().double().numpy().copy(), network.bias.detach().double().numpy().copy()

    def gradient(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = x.double().numpy() @ w.T + b - y.double().numpy()
        return 2 * residual.T @ x.double().numpy() / 16, 2 * residual.mean(axis=0)

    first = gradient(weight, bias)
    norm = np.sqrt(sum(np.square(part).sum() for part in first))
    second = gradient(weight + rho * first[0] / norm, bias + rho * first[1] / norm)
    loss = sam_step(network, optimiser, lambda: nn.functional.mse_loss(network(x), y), rho)
    np.testing.assert_allclose(network.weight.detach().numpy(), weight - rate * second[0], atol=1e-6)
    np.testing.assert_allclose(network.bias.detach().numpy(), bias - rate * second[1], atol=1e-6)
    before = np.square(x.double().numpy() @ weight.T + bias - y.double().numpy()).mean()
    assert float(loss) == pytest.approx(before, rel=1e-5)


def test_sam_updates_running_statistics_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    plain, x = copy.deepcopy(network), torch.randn(8, 4)
    sam_step(network, torch.optim.SGD(network.parameters(), lr=0.1), lambda: network(x).square().mean(), 0.5)
    plain(x)
    torch.testing.assert_close(network[1].running_mean, plain[1].running_mean)
    assert int(network[1].num_batches_tracked) == 1
    assert network[1].momentum == 0.1


def test_rectangles_are_erased_as_often_and_as_large_as_asked() -> None:
    pictures = torch.ones(400, 3, 50, 50)
    with seeded(1):
        changed = erase(pictures, 0.5, (0.1, 0.1), (0.25, 0.5, 0.75))
    gone = changed[:, 0] != 1
    share = gone.flatten(1).float().mean(dim=1)
    assert 0.4 < float((share > 0).float().mean()) < 0.6
    assert share[share > 0].sub(0.1).abs().max() < 0.02
    spots = gone.nonzero()
    one = spots[spots[:, 0] == spots[0, 0]]
    height, width = (int(one[:, axis].max() - one[:, axis].min() + 1) for axis in (1, 2))
    assert len(one) == height * width, "one rectangle"
    assert changed[gone.unsqueeze(1).expand_as(changed)].unique().tolist() == [0.25, 0.5, 0.75]


def test_colours_and_blur_are_torchvisions() -> None:
    pictures = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    reference = {"brightness": adjust_brightness, "contrast": adjust_contrast, "saturation": adjust_saturation}
    for name, function in reference.items():
        with seeded(7):
            changed = augment(pictures, FrameAugmentation(**{name: 0.5}))
        with seeded(7):
            factor = float(0.5 + torch.rand(1))
        torch.testing.assert_close(changed, function(pictures, factor), atol=2e-4, rtol=0)
    blurred = augment(pictures, FrameAugmentation(blur=(0.7, 0.7)))
    torch.testing.assert_close(blurred, gaussian_blur(pictures, [3, 3], [0.7, 0.7]), atol=1e-5, rtol=0)


def test_frames_are_augmented_each_by_itself() -> None:
    picture = torch.rand(3, 24, 24).expand(12, 3, 24, 24)
    with seeded(5):
        first = augment(picture, AUTHORS)
    with seeded(5):
        again = augment(picture, AUTHORS)
    assert torch.equal(first, again)
    assert len({frame.numpy().tobytes() for frame in first}) == 12
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(augment(picture, FrameAugmentation()), picture)


def test_pictures_enter_as_stage_1_has_them() -> None:
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    made = normalise(to_float(pixels, "cpu"), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert made.shape == (2, 3, 5, 6)
    expected = (pixels.numpy().transpose(0, 3, 1, 2) / 255 - np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / np.array(
        [0.5, 0.6, 0.7]
    ).reshape(3, 1, 1)
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-6)


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, outputs = rng.integers(0, 8, 200), rng.normal(size=(200, 10)).astype(np.float32) / 3
    va = rng.uniform(-1, 1, (200, 2)).astype(np.float32)
    va[::7] = np.nan
    found, said = affect_figures(outputs, labels, va, EMOTIONS), outputs[:, :8].argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert found["mean_recall"] == pytest.approx(recall_score(labels, said, average="macro"))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert found["confusion"] == confusion_matrix(labels, said).tolist()
    precisions = precision_score(labels, said, average=None)
    assert [row["precision"] for row in found["classes"].values()] == pytest.approx(precisions.tolist())
    rest, seven = labels != 1, np.delete(outputs[:, :8], 1, axis=1).argmax(axis=1)
    expected = (np.delete(np.arange(8), 1)[seven] == labels)[rest].mean()
    assert found["accuracy_7"] == pytest.approx(expected)
    known = ~np.isnan(va[:, 0])
    for index, name in enumerate(("valence", "arousal")):
        values = torch.from_numpy(outputs[known, 8 + index]).clamp(-1, 1)
        ccc = float(concordance_corrcoef(values, torch.from_numpy(va[known, index])))
        assert found[name]["ccc"] == pytest.approx(ccc, abs=0.01), "population against sample variance"


def test_losses_and_weights() -> None:
    counts = np.array([100, 4, 25])
    assert class_weights(counts, "inverse").tolist() == [1, 25, 4]
    sqrt = class_weights(counts, "sqrt")
    assert (sqrt / sqrt[0]).tolist() == pytest.approx([1, 5, 2])
    assert float(sqrt.mean()) == pytest.approx(1)
    torch.manual_seed(0)
    outputs, labels = torch.randn(40, 5), torch.randint(0, 3, (40,))
    va = torch.rand(40, 2) * 2 - 1
    va[:10] = float("nan")
    recipe = pretrain_recipe("emobeam", ["va_rows=30"])
    loss, parts = affect_loss(outputs, labels, va, sqrt, recipe)
    smooth = torch.full((40, 3), 0.1 / 3)
    smooth[torch.arange(40), labels] += 0.9
    logs = outputs[:, :3].log_softmax(dim=1)
    expected = -(smooth * logs * sqrt).sum() / sqrt[labels].sum()
    assert parts["expression"] == pytest.approx(float(expected), rel=1e-5)
    apart = 0.0
    for k in (0, 1):
        x, y = outputs[10:, 3 + k].double().numpy(), va[10:, k].double().numpy()
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        apart += 1 - 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert parts["va"] == pytest.approx(apart, rel=1e-5)
    assert float(loss) == pytest.approx(parts["expression"] + 0.5 * parts["va"], rel=1e-5)
    _, parts = affect_loss(outputs, labels, va, sqrt, pretrain_recipe("emobeam"))
    assert parts["va"] == pytest.approx(float((outputs[10:, 3:] - va[10:]).square().mean(dim=0).sum()), rel=1e-5)


def test_rates_and_recipes() -> None:
    recipe = pretrain_recipe("emobeam", ["epochs=10", "warmup_epochs=2"])
    rates = [learning_rate(recipe, "all", step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(3e-4 / 10)
    assert max(rates) == rates[10] == pytest.approx(3e-4)
    assert rates[30] == pytest.approx((3e-4 + 1e-6) / 2)
    assert 1e-6 < rates[-1] < 2e-6
    assert learning_rate(recipe, "head", 7, 5) == 1e-3
    assert PRETRAIN_RECIPES["authors"].lr == pytest.approx(0.002 * (1024 / 4096) ** 0.5)
    for bad, text in (("lr=fast", "a number"), ("speed=1", "expected field=value"), ("dropout=1", "less than 1")):
        with pytest.raises(UsageError, match=text):
            pretrain_recipe("emobeam", [bad])
    with pytest.raises(UsageError, match="choose one of"):
        pretrain_recipe("fast")


@pytest.fixture
def images(tmp_path: Path) -> FaceImages:
    write_faces(tmp_path, 4, size=20)
    paths = sorted(str(path) for path in tmp_path.rglob("*.jpg"))
    Path(paths[3]).write_bytes(b"no picture")
    Path(paths[5]).unlink()
    count = len(paths)
    boxes = np.full((count, 4), np.nan, np.float32)
    boxes[7] = (4, 4, 12, 12)
    labels = np.arange(count) // 4
    va = np.full((count, 2), np.nan, np.float32)
    return FaceImages(("a", "b", "c", "d"), tuple(paths), tuple(paths), ("",) * count, labels, va, boxes)


@pytest.mark.parametrize("kind", [PlainTransform, FaceTransform, ImagenetTransform])
def test_batches_dont_depend_on_workers(images: FaceImages, kind: type) -> None:
    epochs = {}
    for workers in (0, 2):
        loader = ImageLoader(images, kind(16), batch=5, seed=3, workers=workers)
        epochs[workers] = [list(loader.shuffled(epoch)) for epoch in (0, 1)]
        rest = list(loader.shuffled(1, 2))
        assert [b.places.tolist() for b in rest] == [b.places.tolist() for b in epochs[workers][1][2:]]
        assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(rest, epochs[workers][1][2:], strict=True))
    for mine, other in zip(*([b for epoch in epochs[w] for b in epoch] for w in (0, 2)), strict=True):
        assert torch.equal(mine.places, other.places)
        assert torch.equal(mine.pictures, other.pictures)
        assert mine.problems == other.problems
    assert epochs[0][0][0].pictures.dtype == torch.uint8
    first, second = (sorted(int(p) for b in e for p in b.places) for e in epochs[0])
    assert set(first) | set(second) <= set(range(16)) - {3, 5}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(ImageLoader(images, kind(16), batch=5, seed=3).shuffled(0))
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all(), "the random state of the caller is left alone"


def test_unreadable_images_are_told(images: FaceImages) -> None:
    batches = list(ImageLoader(images, PlainTransform(16), batch=16, seed=0).in_order())
    problems = dict(batches[0].problems)
    assert sorted(problems) == [3, 5]
    assert "not a readable image" in problems[3]
    assert "no such file" in problems[5]
    assert len(batches[0].places) == len(batches[0].pictures) == 14


class Line:
    """Learns the slope of a line by noisy steps."""

    def __init__(self, broken: int = -1) -> None:
        self.weight = torch.zeros(1)
        self.velocity = torch.zeros(1)
        self.taken = 0
        self.broken = broken

    def begin(self, epoch: int) -> None:
        self.scale = 0.5**epoch

    def steps(self, epoch: int) -> int:
        return 4

    def batches(self, epoch: int, start: int):  # type: ignore[no-untyped-def]
        return iter(range(start, 4))

    def step(self, epoch: int, step: int, batch: int) -> dict[str, float]:
        if self.taken == self.broken:
            raise KeyboardInterrupt
        self.taken += 1
        self.velocity = 0.9 * self.velocity + (1 - self.weight) + 0.1 * torch.randn(1)
        self.weight = self.weight + 0.1 * self.scale * self.velocity
        return {"loss": float((1 - self.weight) ** 2)}

    def evaluate(self) -> dict[str, float]:
        return {"score": -abs(float(1 - self.weight))}

    def weights(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight}

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "velocity": self.velocity}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.weight, self.velocity = state["weight"], state["velocity"]


@pytest.mark.parametrize("broken", [1, 4, 7, 11])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_run_broken_off_anywhere_ends_the_same(tmp_path: Path, broken: int, seconds: float) -> None:
    plan = FitPlan("a", epochs=4, seed=2, checkpoint_seconds=seconds)
    whole = fit(Line(), plan, str(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        fit(Line(broken), plan, str(tmp_path / "parts"))
    learner = Line()
    again = fit(learner, plan, str(tmp_path / "parts"))
    assert torch.equal(whole.weights["weight"], again.weights["weight"])
    assert whole.history == again.history
    assert (whole.best_epoch, len(whole.history)) == (again.best_epoch, 4)
    assert learner.taken == 16 - (broken if seconds == 0 else broken // 4 * 4)
    assert again.resumed == (seconds == 0 or broken >= 4)


def test_a_disk_without_room_for_a_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"{tmp_path}/state\.pt: can't be written"):
            fit(Line(), FitPlan("a", 4), str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_fitting_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(5), FitPlan("a", 4), str(tmp_path))
    with pytest.raises(UsageError, match="an unfinished run with other data or settings"):
        fit(Line(), FitPlan("b", 4), str(tmp_path))
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(EmobeamError, match="not a checkpoint of emobeam"):
        fit(Line(), FitPlan("a", 4), str(tmp_path))


def test_patience_and_loss_that_is_no_number(tmp_path: Path) -> None:
    learner = Line()
    learner.evaluate = lambda: {"score": -float(learner.taken)}  # type: ignore[method-assign]
    fitted = fit(learner, FitPlan("a", 10, patience=2), str(tmp_path / "a"))
    assert (fitted.best_epoch, len(fitted.history)) == (0, 3)
    learner = Line()
    learner.step = lambda epoch, step, batch: {"loss": float("nan")}  # type: ignore[method-assign]
    with pytest.raises(EmobeamError, match="loss is nan in step 1 of epoch 1"):
        fit(learner, FitPlan("a", 10), str(tmp_path / "b"))


def test_seeds_differ() -> None:
    seeds = {mixed_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)
