"""Videos of the microworld that look different from each other."""

from vidreason.microworld.corpora import WorldConfig, split_rollouts
from vidreason.microworld.renderer import write_video


def videos_of_a_world(folder, number):
    """Write the first videos of a world's ``train`` into a folder; their rollouts by id."""
    rollouts = split_rollouts("train", WorldConfig(num_videos={"train": number}))
    folder.mkdir(exist_ok=True)
    for video_id, rollout in rollouts.items():
        write_video(rollout, folder / f"{video_id}.mp4")
    return rollouts
