"""What fine-tuning made a model forget: a general probe, read, measured by others, and judged.

The probe that is shipped lies in `data/`: minimal pairs of sentences, questions with four answers, prose in five registers,
and tasks that ask for a form of answer. It is never trained on. Nothing here computes a model; `luthier.stages.forgetting`
does, and hands the numbers back.
"""
