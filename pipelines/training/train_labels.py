"""The labels that a run of training is asked for: the organisers' annotations, or people folders."""

from __future__ import annotations

from collections.abc import Mapping

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.inputs.people_folders import people_below
from emobeam.emo_transforms.training.heads.people_labels import read_people_labels
from emobeam.emo_transforms.training.holdout import training_labels
from emobeam.pipelines.console import Ui
from emobeam.pipelines.training.train_output import TrainRequest
from emobeam.schemas.records import EmobeamError, UsageError


def read_training_labels(request: TrainRequest, ui: Ui) -> tuple[list[VideoLabels], str, Mapping[str, str]]:
    """Labels, their partition, and who each name is about where the labels tell (people folders do).

    Raises:
        EmobeamError: unusable labels, or none.
        UsageError: people folders and other labels together, a partition of people folders, several other places.
    """
    task, places = request.task, request.label_places
    people = [place for place in places if people_below(place)]
    if people and len(people) < len(places):
        other = next(place for place in places if place not in people)
        raise UsageError(f"--labels: {people[0]} is a people folder and {other} is not; train on one kind of labels")
    if people:
        if request.partition:
            raise UsageError(f"--partition {request.partition}: people folders have no partitions; leave it out")
        found = read_people_labels(people, task)
        return list(found.entries), "", found.persons
    if len(places) != 1:
        raise UsageError(f"--labels: several places are for people folders; {places[0]} is none")
    labels, partition = training_labels(
        places[0], task, warn=ui.warn, partition=request.partition, allow_official=request.allow_official
    )
    if not labels:
        raise EmobeamError(f"{places[0]}: no labels of task {task.name}")
    return labels, partition, {}
