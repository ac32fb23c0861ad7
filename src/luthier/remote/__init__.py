"""Services with OpenAI's chat API: where they are, how they are asked, what they say, and what that costs.

Nothing here knows of samples or judges: `luthier.stages` makes sources of answers and of verdicts of it.
"""
