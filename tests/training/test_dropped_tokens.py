"""Tokens are left out of training samples, never all of them, and by position alone."""

import pytest
import torch

from data_modules.corpora import DataConfig
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.training.dropped_tokens import drop_tokens

NUM_CLIPS, TRACKS = 4, [0, 1, 2, 0, 2, 3, 0]


def batch_of(make_visual_tokens, num_samples):
    tokens = make_visual_tokens(NUM_CLIPS, len(TRACKS))
    tokens.track_ids[NUM_CLIPS:] = torch.tensor(TRACKS)
    return collate_visual_tokens([tokens] * num_samples)


def left_of(visual, **drop):
    """Which clips, and which tracks, are left of each sample."""
    mask = drop_tokens(visual, drop, 0, epoch=1, first=3)["mask"]
    tracks = torch.tensor(TRACKS)
    clips = [tuple(row.nonzero().flatten().tolist()) for row in mask[:, :NUM_CLIPS]]
    objects = []
    for row in mask[:, NUM_CLIPS:]:
        left = set(tracks[row].tolist())
        # An object is there at all its key frames, or at none.
        assert torch.equal(row, torch.isin(tracks, torch.tensor(sorted(left))))
        objects.append(tuple(sorted(left)))
    return clips, objects


def test_any_number_but_all_are_left_out(make_visual_tokens):
    visual = batch_of(make_visual_tokens, 400)
    before = visual["mask"].clone()
    clips, objects = left_of(visual, clips=1.0, objects=1.0)
    for left in (clips, objects):  # of four each
        assert len(set(left)) == 2**4 - 2  # each choice but none and all of them
        numbers = [sum(len(one) == count for one in left) for count in (1, 2, 3)]
        assert sum(numbers) == 400
        assert min(numbers) > 100
    assert torch.equal(visual["mask"], before)


def test_samples_are_left_alone_with_the_rest_of_the_probability(make_visual_tokens):
    visual = batch_of(make_visual_tokens, 400)
    everything = tuple(range(NUM_CLIPS)), tuple(sorted(set(TRACKS)))
    clips, objects = left_of(visual, clips=0.25)
    assert 70 < sum(one != everything[0] for one in clips) < 130
    assert set(objects) == {everything[1]}
    # What happens to objects does not depend on what happens to clips.
    alone = left_of(visual, objects=0.25)
    both = left_of(visual, clips=0.25, objects=0.25)
    assert both == (clips, alone[1])
    assert alone[0] == [everything[0]] * 400
    assert 70 < sum(one != everything[1] for one in alone[1]) < 130


def test_a_stretch_that_ends_before_the_video_is_left(make_visual_tokens):
    visual = batch_of(make_visual_tokens, 400)
    ends = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.5, 0.5, 1.5, 1.5, 3.5, 3.5, 4.0])
    visual["spans"][:, :, 1] = ends
    moments = sorted(set(ends.tolist()))
    mask = drop_tokens(visual, {"moments": 1.0}, 0, epoch=1, first=3)["mask"]
    stretches = set()
    for row in mask:
        left = sorted(set(ends[row].tolist()))
        start, stop = moments.index(left[0]), moments.index(left[-1])
        assert left == moments[start : stop + 1]
        # All tokens of a moment are there, or none.
        assert torch.equal(row, torch.isin(ends, torch.tensor(left)))
        stretches.add((start, stop))
    pairs = {(start, stop) for stop in range(len(moments) - 1) for start in range(stop + 1)}
    assert stretches == pairs  # each but those that show the end
    from_start = sum(bool(row[4]) for row in mask)
    assert 200 < from_start < 330  # half of them, and what else begins there


def test_a_single_clip_or_object_stays(make_visual_tokens):
    videos: list[VisualTokens] = [make_visual_tokens(1, 1), make_visual_tokens(0, 1)]
    videos += [make_visual_tokens(1, 0), make_visual_tokens(0, 0)]
    visual = collate_visual_tokens(videos)
    drop = {"clips": 1.0, "objects": 1.0}
    for first in range(20):
        assert torch.equal(drop_tokens(visual, drop, 0, 0, first)["mask"], visual["mask"])


def test_the_choice_depends_on_seed_epoch_and_position_alone(make_visual_tokens):
    drop = {"clips": 0.5, "objects": 0.5}
    whole = drop_tokens(batch_of(make_visual_tokens, 40), drop, 3, 2, 0)["mask"]
    torch.manual_seed(1)
    for first, count in ((0, 1), (5, 10), (32, 8)):
        part = drop_tokens(batch_of(make_visual_tokens, count), drop, 3, 2, first)["mask"]
        assert torch.equal(part, whole[first : first + count])
    for seed, epoch in ((3, 3), (4, 2)):
        changed = drop_tokens(batch_of(make_visual_tokens, 40), drop, seed, epoch, 0)["mask"]
        assert not torch.equal(changed, whole)
    # Recorded: the same on any machine, and under any version of Python and torch.
    bits = [f"{int(''.join(str(int(bit)) for bit in row), 2):03x}" for row in whole[:6]]
    assert bits == ["7cb", "7ff", "4ff", "7ff", "7fd", "7ff"]


@pytest.mark.parametrize("drop", [{"frames": 0.1}, {"clips": 1.5}, {"moments": -0.1}])
def test_what_cannot_be_dropped_is_refused(drop):
    with pytest.raises(ValueError, match=r"data.drop gives '\w+' .* clips, objects, moments"):
        DataConfig(drop=drop)
