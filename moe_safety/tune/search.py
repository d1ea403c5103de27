"""Tune's search algorithms and schedulers for a sweep, told of the trials that are over already."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from moe_safety.config import Domain, Point, Sweep
from moe_safety.tune.records import Record, id_of

ROUND = "round"
"""What a trial counts its reports by."""
_DRAWS = 1000
"""Points that are drawn before a space counts as tried out."""


def left_of_plan(sweep: Sweep, records: Sequence[Record]) -> list[dict[str, Any]]:
    """The points of a grid or of a random search whose trials are not over."""
    over = {record.id for record in records if record.is_over}
    return [point for point in sweep.points() if id_of(point) not in over]


def optuna_search(sweep: Sweep, records: Sequence[Record]) -> Any:
    """Optuna's TPE, which has learnt from the finished trials, and begins with those that were cut off."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {f"point/{key}": _distribution(domain) for key, domain in sweep.space.items()}
    modes = [sweep.direction(goal) for goal in sweep.goals]
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        storage=storage, study_name="sweep", directions=["maximize" if mode == "max" else "minimize" for mode in modes]
    )
    for record in records:
        if record.is_over:
            study.add_trial(_told(record, sweep, space))
    single = len(sweep.goals) == 1

    class Fresh(OptunaSearch):  # type: ignore[misc, unused-ignore]
        """Tries no point twice: a trial is known by what it tries, and would find its own results."""

        tried: set[str]
        chance: random.Random

        def suggest(self, trial_id: str) -> Any:
            """The next point that has not been tried."""
            config = super().suggest(trial_id)
            while id_of(config["point"]) in self.tried:
                super().on_trial_complete(trial_id, error=True)
                # It is to be asked again for this very trial; TPE would go on to name the best point that it knows.
                del self._ot_trials[trial_id]
                self._completed_trials.discard(trial_id)
                point = self._drawn()
                if point is None:
                    return self.FINISHED
                study.enqueue_trial(_named(Record(point)))
                config = super().suggest(trial_id)
            self.tried.add(id_of(config["point"]))
            return config

        def _drawn(self) -> Point | None:
            """A point that was not tried; none where hardly any is left."""
            drawn = ({key: domain.draw(self.chance) for key, domain in sweep.space.items()} for _ in range(_DRAWS))
            return next((point for point in drawn if id_of(point) not in self.tried), None)

    search = Fresh(
        space=space,
        metric=sweep.goals[0] if single else sweep.goals,
        mode=modes[0] if single else modes,
        # Of so many trials already known, the next ones are not to be those that a new study begins with.
        sampler=optuna.samplers.TPESampler(seed=sweep.seed + len(study.trials)),
        storage=storage,
        study_name="sweep",
        points_to_evaluate=[_named(record) for record in records if not record.is_over],
    )
    search.tried = {record.id for record in records if record.is_over}
    search.chance = random.Random(sweep.seed + len(study.trials))
    return search


def asha(sweep: Sweep, rounds: int, records: Sequence[Record]) -> Any:
    """The scheduler, or none. What earlier trials reached at each rung counts."""
    from ray.tune.schedulers import ASHAScheduler

    if sweep.asha is None:
        return None
    (goal,) = sweep.goals
    scheduler = ASHAScheduler(
        time_attr=ROUND,
        metric=goal,
        mode=sweep.direction(goal),
        max_t=max(rounds, sweep.asha.grace_rounds),
        grace_period=sweep.asha.grace_rounds,
        reduction_factor=sweep.asha.reduction,
    )
    for record in records:
        if record.is_over and record.results:
            trial = SimpleNamespace(trial_id=record.id)
            scheduler.on_trial_add(None, trial)
            for result in record.results:
                scheduler.on_trial_result(None, trial, result)
            scheduler.on_trial_remove(None, trial)
    return scheduler


def _distribution(domain: Domain) -> Any:
    from optuna import distributions

    if domain.choice is not None:
        return distributions.CategoricalDistribution(domain.names)
    low, high = domain.bounds
    if domain.is_whole:
        return distributions.IntDistribution(int(low), int(high), log=domain.is_log)
    return distributions.FloatDistribution(low, high, log=domain.is_log)


def _named(record: Record) -> dict[str, Any]:
    return {f"point/{key}": value for key, value in record.point.items()}


def _told(record: Record, sweep: Sweep, space: dict[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    values = [value for goal in sweep.goals if (value := record.measured(goal)) is not None]
    known = len(values) == len(sweep.goals)
    return create_trial(
        state=TrialState.COMPLETE if known else TrialState.FAIL,
        values=values if known else None,
        params=_named(record),
        distributions=space,
    )
