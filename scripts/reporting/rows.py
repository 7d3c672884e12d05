"""Adds up a file of rollouts in memory that does not grow with it.

The file is read once. Of its rows only counters stay: by step and domain (at most `MAX_BINS` bins of steps), by
workflow (at most `MAX_WORKFLOWS`, where the rarest are forgotten first), by problem (at most `MAX_PROBLEMS`), and a
random sample. The few workflows that the report shows are fetched afterwards from the place in the file where they are.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.problem import DOMAINS
from recipes.run.rollout_log import rollout_files
from scripts.reporting.counters import OTHER, ByDomain, Mean, RolloutFacts, StepBins
from scripts.reporting.reading import Place, Row, read_lines, rows_at

MAX_WORKFLOWS = 20_000
MAX_PROBLEMS = 20_000
MAX_REASONS = 1_000
SAMPLE_ROWS = 200


@dataclass(slots=True)
class WorkflowCount:
    """How one workflow did: number of graded rollouts, sum of rewards, and where its best and its worst one are."""

    count: int = 0
    reward: float = 0.0
    best: tuple[float, Place] = (-1.0, Place(0, 0))
    worst: tuple[float, Place] = (2.0, Place(0, 0))

    def add(self, reward: float, place: Place) -> None:
        """Count a rollout that starts at `place`."""
        self.count += 1
        self.reward += reward
        if reward > self.best[0]:
            self.best = reward, place
        if reward < self.worst[0]:
            self.worst = reward, place

    @property
    def mean(self) -> float:
        """Mean reward."""
        return self.reward / self.count


class RowsReader:
    """Reads one JSONL file of rollouts, with its closed parts, and keeps what can be told about it.

    Args:
        path (`Path`): rollouts.jsonl, heldout.jsonl or rows.jsonl.

    Attributes:
        rows, unreadable (`int`): lines with and without an object.
        steps (`StepBins[ByDomain]`): the rollouts that have a step.
        totals (`ByDomain`): all rollouts.
        phases (`dict[str, ByDomain]`): all rollouts, by phase.
        problems (`dict`): mean reward of each problem by (phase, domain, problem).
        reasons (`Counter[str]`): why completions were no workflows; the rarest of very many are not kept.
        forgotten (`int`): rare workflows that were not kept.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, rollout_files(path)
        self.rows = self.unreadable = self.forgotten = 0
        self.steps: StepBins[ByDomain] = StepBins(ByDomain)
        self.totals = ByDomain()
        self.phases: dict[str, ByDomain] = {}
        self.problems: dict[tuple[str, str, str], Mean] = {}
        self.reasons: Counter[str] = Counter()
        self._workflows: dict[tuple[str, bytes], WorkflowCount] = {}
        self._sample: list[Place] = []
        self._random = random.Random(0)

    def read(self, on_bytes: Callable[[int], None] | None = None) -> "RowsReader":
        """Read all of it."""
        for place, row in read_lines(self.files, on_bytes):
            if row is None:
                self.unreadable += 1
            else:
                self._add(RolloutFacts.of(row), place)
        return self

    def _add(self, rollout: RolloutFacts, place: Place) -> None:
        self.rows += 1
        phase = rollout.phase if rollout.phase in ("before", "after") else ""
        self.totals.add(rollout)
        self.phases.setdefault(phase, ByDomain()).add(rollout)
        if rollout.step is not None:
            self.steps.at(rollout.step).add(rollout)
        if rollout.invalid:
            self.reasons[rollout.invalid] += 1
            if len(self.reasons) > MAX_REASONS:
                self.reasons = Counter(dict(self.reasons.most_common(MAX_REASONS // 2)))
        if rollout.reward is not None:
            problem = phase, rollout.domain, rollout.problem
            if problem in self.problems or len(self.problems) < MAX_PROBLEMS:
                self.problems.setdefault(problem, Mean()).add(rollout.reward)
            if rollout.workflow:
                key = rollout.domain, rollout.workflow
                self._workflows.setdefault(key, WorkflowCount()).add(rollout.reward, place)
        if len(self._workflows) > MAX_WORKFLOWS:
            self._forget_rare_workflows()
        self._draw(place)

    def _forget_rare_workflows(self) -> None:
        kept = sorted(self._workflows.items(), key=lambda item: -item[1].count)[: MAX_WORKFLOWS // 2]
        self.forgotten += len(self._workflows) - len(kept)
        self._workflows = dict(kept)

    def _draw(self, place: Place) -> None:
        """Reservoir sampling (Vitter, 1985, algorithm R)."""
        if len(self._sample) < SAMPLE_ROWS:
            self._sample.append(place)
        elif (slot := self._random.randrange(self.rows)) < SAMPLE_ROWS:
            self._sample[slot] = place

    def sample(self, count: int) -> list[Row]:
        """Return `count` rows drawn uniformly (at most `SAMPLE_ROWS`), or all if there are fewer, in order."""
        drawn = self._random.sample(self._sample, min(count, len(self._sample)))
        return list(rows_at(self.files, drawn).values())

    @property
    def domains(self) -> list[str]:
        """Domains present, in the order of `DOMAINS`."""
        return [domain for domain in (*DOMAINS, OTHER) if domain in self.totals.domains]

    def rewards(self, phase: str, domain: str | None = None) -> dict[str, float]:
        """Return the mean reward of each problem of a phase, of one domain or of all."""
        return {
            problem: mean.total / mean.count
            for (its_phase, its_domain, problem), mean in self.problems.items()
            if its_phase == phase and domain in (None, its_domain)
        }

    def least_count(self, domain: str, wanted: int) -> int:
        """Return how often a workflow must have been tried to be ranked: as often as still leaves `wanted` of them."""
        counts = sorted((count.count for (its, _), count in self._workflows.items() if its == domain), reverse=True)
        enough = counts[wanted - 1] if len(counts) >= wanted else 1
        return max(least for least in (1, 2, 3, 5, 10, 20) if least <= max(1, enough))

    def ranked(self, domain: str, each: int) -> list[tuple[str, WorkflowCount, Row]]:
        """Return the best workflows of a domain by mean reward, then the worst, no workflow twice.

        Returns:
            `list[tuple[str, WorkflowCount, dict]]`: `"best"` or `"worst"`, how it did, and its best or its worst row.
        """
        least = self.least_count(domain, 2 * each)
        found = [count for (its, _), count in self._workflows.items() if its == domain and count.count >= least]
        found.sort(key=lambda count: (count.mean, count.count), reverse=True)
        worst = sorted(found[each:], key=lambda count: (count.mean, -count.count))[:each]
        shown = [("best", count, count.best[1]) for count in found[:each]]
        shown += [("worst", count, count.worst[1]) for count in worst]
        rows = rows_at(self.files, [place for _, _, place in shown])
        return [(verdict, count, rows[place]) for verdict, count, place in shown]
