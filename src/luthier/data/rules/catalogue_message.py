"""What the rules about a row's messages say, and their remedies."""

from __future__ import annotations

from luthier.data.findings import Rule
from luthier.data.rules.catalogue_file import CHAT_ROW

MISSING_MESSAGES = Rule(
    "missing-messages",
    "error",
    "message",
    'the row has no list of messages in "messages"',
    f"Write each row as {CHAT_ROW}.",
)
UNKNOWN_ROLE = Rule(
    "unknown-role",
    "error",
    "message",
    "a message's role is none of system, developer, user, assistant, tool",
    "Write one of these; what the model is told is system, what it answers is assistant.",
)
FOREIGN_ROLE = Rule(
    "unknown-role",
    "error",
    "message",
    "a message's role has another vendor's name",
    "Write the role's name in OpenAI's spelling, all lower case.",
    fix="renames it",
)
MISSING_CONTENT = Rule(
    "missing-content",
    "error",
    "message",
    "a message has no text",
    'Put the text under the key "content", as a string. Only an assistant message with "tool_calls" or a "refusal" may '
    "have null there.",
)
EMPTY_ANSWER = Rule(
    "empty-content",
    "error",
    "message",
    "an assistant message that is to be learned is empty, so the model would learn to say nothing",
    'Write the answer, delete the row, or give the message "weight": 0.',
)
EMPTY_CONTENT = Rule(
    "empty-content",
    "warning",
    "message",
    "a message is empty",
    "Delete it, or write its text: an empty system message still changes what the model is given.",
    fix="deletes the empty message",
)
EMPTY_TURN = Rule(
    "empty-content",
    "warning",
    "message",
    "a message is empty, and the conversation would not be whole without it",
    "Write its text, or delete the row.",
)
CONTENT_PARTS = Rule(
    "content-parts",
    "error",
    "message",
    'the content is a list with something else in it than {"type": "text", "text": "…"}',
    'Write the content as one string, or its parts as {"type": "text", "text": "…"}. Images, audio and weights per '
    "part cannot be trained on here.",
)
FOREIGN_PARTS = Rule(
    "content-parts",
    "error",
    "message",
    "the content is a list of text parts written in another vendor's way",
    'Write the content as one string, or its parts as {"type": "text", "text": "…"}.',
    fix="writes the text of the parts as one string",
)
UNKNOWN_KEY = Rule(
    "unknown-key",
    "warning",
    "message",
    "a key that OpenAI's chat format does not have; nothing under it is learned",
    "Delete the key, or correct its spelling.",
    fix="deletes the key",
)
LOST_KEY = Rule(
    "unknown-key",
    "error",
    "message",
    "a key that is not read holds what the model should have learned",
    'Put the text into "content" (calls into "tool_calls", functions into "tools").',
)
MISPLACED_KEY = Rule(
    "unknown-key",
    "warning",
    "message",
    "a key has no meaning on this message; nothing under it is learned",
    "Delete the key, or put it where the format has it: names and ids are strings, a refusal is the assistant's, and a "
    '"tool_call_id" belongs to a tool\'s result.',
    fix="deletes the key",
)
OLD_FUNCTIONS = Rule(
    "unknown-key",
    "error",
    "message",
    "functions are written in OpenAI's old way, which current models' templates do not read",
    'Write "functions" as "tools", "function_call" as "tool_calls", and the role function as tool.',
    fix="writes them as tools, with ids made up for the calls",
)
BAD_WEIGHT = Rule(
    "bad-weight",
    "error",
    "message",
    '"weight" must be 0 or 1, and stands on assistant messages only',
    "Write 1 (learn this answer; the same as no weight) or 0 (give it as context only).",
)
BAD_TOOLS = Rule(
    "bad-tools",
    "error",
    "message",
    "the declaration of the tools is not valid",
    'Write "tools" as [{"type": "function", "function": {"name": "…", "parameters": {…JSON schema…}}}].',
)
BAD_TOOL_CALL = Rule(
    "bad-tool-call",
    "error",
    "message",
    "a tool call is not valid",
    'Write calls as {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}} with the arguments '
    'as a string made by `json.dumps`, and declare the function in the row\'s "tools".',
)
ARGUMENTS_AGAINST_SCHEMA = Rule(
    "bad-tool-call",
    "warning",
    "message",
    "a call's arguments are not as its function's schema says, and the model learns to call it so",
    'Correct the arguments, or the schema in "tools" where the arguments are right.',
)
UNDECLARED_TOOLS = Rule(
    "bad-tool-call",
    "warning",
    "message",
    'a function is called, but the row has no "tools" that declare it, so the model cannot see why it may',
    'Add the row\'s "tools", as they will be given when the model is used.',
)
TOOL_NAME = Rule(
    "bad-tools",
    "warning",
    "message",
    "a function's name is not one that OpenAI-shaped services accept",
    "Use letters, digits, underscores and dashes, at most 64 of them.",
)
"""Source: OpenAI's API specification, `FunctionObject.name`."""
UNANSWERED_CALL = Rule(
    "bad-tool-call",
    "warning",
    "message",
    "a call has no result, but the conversation goes on; services refuse such messages when the model is used",
    'Add the result after the call: {"role": "tool", "tool_call_id": "…", "content": "…"}.',
)
TOOL_RESULT_WITHOUT_CALL = Rule(
    "tool-result-without-call",
    "error",
    "message",
    "a tool's result answers no call",
    'Give the message the "tool_call_id" of the call before it that it answers.',
)
NO_USER = Rule(
    "no-user",
    "warning",
    "message",
    "the row has no user message",
    "Add what the user said; without it the model learns to say this to anybody.",
)
NO_ASSISTANT = Rule(
    "no-assistant",
    "error",
    "message",
    "the row has no assistant message, so there is nothing to learn from it",
    "Add the answer as an assistant message, or delete the row.",
)
NOTHING_TRAINED = Rule(
    "nothing-trained",
    "error",
    "message",
    "every assistant message has weight 0, so there is nothing to learn from the row",
    "Remove the weight from the answers to be learned, or delete the row.",
)
LAST_NOT_ASSISTANT = Rule(
    "last-not-assistant",
    "warning",
    "message",
    "the conversation does not end with the assistant, and what stands after its last message is not learned from",
    "Add the assistant's answer, or delete the messages after its last one.",
    fix="deletes the messages after the last assistant message",
)
ASSISTANT_FIRST = Rule(
    "assistant-first",
    "warning",
    "message",
    "the assistant speaks before the user; the chat templates of several models refuse such a conversation",
    "Begin with a user message.",
)
SAME_ROLE_TWICE = Rule(
    "same-role-twice",
    "warning",
    "message",
    "the same role speaks twice in a row; the chat templates of several models refuse such a conversation",
    "Join the two messages into one, or add the turn that is missing between them.",
    fix="joins the two messages, with a blank line between them",
)
SAME_ROLE_APART = Rule(
    "same-role-twice",
    "warning",
    "message",
    "the same role speaks twice in a row, and the two messages cannot be made one; the chat templates of several models "
    "refuse such a conversation",
    "Add the turn that is missing between them, or delete one of them.",
)
SEVERAL_SYSTEM = Rule(
    "several-system",
    "warning",
    "message",
    "the row has several system messages; many chat templates refuse all but the first, or drop them",
    "Join them into one at the start.",
    fix="joins them into the first, with blank lines between them",
)
LATER_SYSTEM = Rule(
    "several-system",
    "warning",
    "message",
    "a second system message cannot be joined to the first: an answer stands between them, or they are of different kinds; "
    "many chat templates refuse or drop it",
    "Split the row where the instructions change, or say what changes in a user message.",
)
SYSTEM_NOT_FIRST = Rule(
    "system-not-first",
    "warning",
    "message",
    "the system message is not the first; many chat templates refuse or drop it there",
    "Move it to the start.",
    fix="moves it to the start",
)
SYSTEM_AFTER_ANSWER = Rule(
    "system-not-first",
    "warning",
    "message",
    "the system message stands after an answer that did not know it; many chat templates refuse or drop it there",
    "Split the row there, or move the message to the start where it holds for all answers.",
)
PREFERENCE_SHAPE = Rule(
    "preference-shape",
    "error",
    "message",
    "the preference row is not as the format has it",
    'Write {"input": {"messages": [… user]}, "preferred_output": [one assistant message], "non_preferred_output": [one '
    "assistant message]}.",
)
PREFERENCE_SAME = Rule(
    "preference-same",
    "error",
    "message",
    "the preferred and the non-preferred answer are the same, so there is nothing to learn from the row",
    "Write two different answers, or delete the row.",
    fix="leaves the row out",
)
REINFORCEMENT_SHAPE = Rule(
    "reinforcement-shape",
    "error",
    "message",
    "the reinforcement row is not as the format has it",
    'Write {"messages": [… user], …}: the messages end before the answer, and what the grader needs stands under keys '
    "of its own.",
)

RULES = (
    MISSING_MESSAGES,
    UNKNOWN_ROLE,
    FOREIGN_ROLE,
    MISSING_CONTENT,
    EMPTY_ANSWER,
    EMPTY_CONTENT,
    EMPTY_TURN,
    CONTENT_PARTS,
    FOREIGN_PARTS,
    UNKNOWN_KEY,
    LOST_KEY,
    MISPLACED_KEY,
    OLD_FUNCTIONS,
    BAD_WEIGHT,
    BAD_TOOLS,
    BAD_TOOL_CALL,
    ARGUMENTS_AGAINST_SCHEMA,
    UNDECLARED_TOOLS,
    TOOL_NAME,
    UNANSWERED_CALL,
    TOOL_RESULT_WITHOUT_CALL,
    NO_USER,
    NO_ASSISTANT,
    NOTHING_TRAINED,
    LAST_NOT_ASSISTANT,
    ASSISTANT_FIRST,
    SAME_ROLE_TWICE,
    SAME_ROLE_APART,
    SEVERAL_SYSTEM,
    LATER_SYSTEM,
    SYSTEM_NOT_FIRST,
    SYSTEM_AFTER_ANSWER,
    PREFERENCE_SHAPE,
    PREFERENCE_SAME,
    REINFORCEMENT_SHAPE,
)
