"""The main job in Python: `python examples/finetune_sdk.py examples/orders.jsonl`."""

import sys

import luthier


def main() -> None:
    report = luthier.finetune(
        sys.argv[1],
        overrides={"train.n_epochs": 2},
        listener=lambda event: print(event.message, file=sys.stderr) if event.kind != "step" else None,
    )
    print(report.verdict)
    print(report.reason)
    print(f"base {report.base.score:.0%}, fine-tuned {report.fine_tuned.score:.0%}; see {report.folder}/report.html")

    conversation = luthier.chat(report.folder)
    print("".join(conversation.say("Two espresso cups for Ada Pelc, 18 euros in all, on 3 May 2026.")))


if __name__ == "__main__":
    main()
