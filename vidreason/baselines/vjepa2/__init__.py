"""Anticipation with V-JEPA 2: a frozen encoder, its predictor's future latents, a trained probe.

The form is that of facebookresearch/vjepa2@c2963a4, evals/action_anticipation_frozen.
"""
