"""Base against fine-tuned on held-out rows: answers, graders, paired statistics, verdict."""
