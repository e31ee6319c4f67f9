import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from histo_mlflow.errors import RecipeError
from histo_mlflow.training.schedule import apply, multiplier


def ours(total: int, schedule: str, **more) -> list[float]:
    return [
        multiplier(step, total_steps=total, steps_per_epoch=10, schedule=schedule, **more)
        for step in range(total)
    ]


def torchs(total: int, make) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimiser)
    rates = []
    for _ in range(total):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("total", [8, 40, 101])
@pytest.mark.parametrize("pct_start", [0.25, 0.3])
def test_one_cycle_is_torchs(total, pct_start):
    expected = torchs(
        # One step more than is compared, since torch refuses a step past its end.
        total - 1,
        lambda o: OneCycleLR(o, max_lr=1.0, total_steps=total, pct_start=pct_start),
    )

    assert ours(total, "onecycle", pct_start=pct_start)[:-1] == pytest.approx(expected)
    assert ours(total, "onecycle", pct_start=pct_start)[-1] == pytest.approx(1 / (25 * 1e4))


@pytest.mark.parametrize("total", [1, 7, 100])
def test_cosine_is_torchs(total):
    expected = torchs(total, lambda o: CosineAnnealingLR(o, T_max=total))

    assert ours(total, "cosine") == pytest.approx(expected)


def test_warm_up_is_linear_and_the_schedule_starts_after_it():
    rates = ours(50, "cosine", warmup_epochs=0.5)

    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[5:] == pytest.approx(torchs(45, lambda o: CosineAnnealingLR(o, T_max=45)))


def test_constant_is_constant():
    assert set(ours(20, "constant")) == {1.0}


@pytest.mark.parametrize("total", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_the_shortest_trainings_have_rates_between_0_and_1(schedule, total):
    rates = ours(total, schedule)

    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates) > 0.5


def test_steps_past_the_end_keep_the_last_rate():
    last = multiplier(9, total_steps=10, steps_per_epoch=5, schedule="onecycle")

    assert multiplier(99, total_steps=10, steps_per_epoch=5, schedule="onecycle") == last


def test_applying_scales_each_groups_own_rate():
    tensors = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimiser = torch.optim.SGD(
        [
            {"params": [tensors[0]], "lr": 1.0, "initial_lr": 1.0},
            {"params": [tensors[1]], "lr": 0.1, "initial_lr": 0.1},
        ]
    )

    for _ in range(2):  # twice: the factor does not pile up
        highest = apply(optimiser, 0.5)

    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.05]
    assert highest == 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "step"}, "constant, cosine, onecycle"),
        ({"total_steps": 0}, "steps"),
        ({"step": -1}, "steps"),
        ({"schedule": "onecycle", "warmup_epochs": 1}, "its own warm-up"),
        ({"schedule": "onecycle", "pct_start": 1.0}, "pct_start"),
        ({"warmup_epochs": 2}, "must end before the training"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(change, says):
    usual = {"step": 0, "total_steps": 10, "steps_per_epoch": 5, "schedule": "cosine"}
    with pytest.raises(RecipeError, match=says):
        multiplier(**(usual | change))
