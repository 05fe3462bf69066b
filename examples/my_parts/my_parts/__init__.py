"""An encoder, a segmenter, a callback and a metric for vidreason; each is imported when named.

``pip install ./examples/my_parts`` in the environment of the programs; then::

    perceiver.video_encoder={name: resnet_frames, weights: resnet18-f37072fd.pth}
    perceiver.segmenter={name: colour_regions, max_frame_side: 160}
    trainer.callbacks={gradient_norms: {every_n_steps: 10}}
    evaluation.protocols={colon_lines: token_f1}
"""
