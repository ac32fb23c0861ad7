"""What the rules about a row's messages say, and their remedies."""

from __future__ import annotations

from luthier.data.findings import Rule

CHAT_ROW = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'

UNKNOWN_FORMAT = Rule(
    "unknown-format",
    "error",
    "file",
    "the rows are not in OpenAI's chat format",
    f"Write each row as {CHAT_ROW}: what the model is given goes into the user message, what it shall answer into the "
    "assistant message.",
)
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
    "Write the role's name in OpenAI's spelling, all lower case.",
    fix="renames roles of other vendors",
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
    "Write its text, or delete the message: an empty system message still changes what the model is given.",
    fix="deletes empty system messages",
)
CONTENT_PARTS = Rule(
    "content-parts",
    "error",
    "message",
    'the content is a list with something else in it than {"type": "text", "text": "…"}',
    'Write the content as one string, or its parts as {"type": "text", "text": "…"}. Images, audio and weights per '
    "part cannot be trained on here.",
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
UNDECLARED_TOOLS = Rule(
    "bad-tool-call",
    "warning",
    "message",
    'a function is called, but the row has no "tools" that declare it, so the model cannot see why it may',
    'Add the row\'s "tools", as they will be given when the model is used.',
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
    fix="joins the two messages",
)
SEVERAL_SYSTEM = Rule(
    "several-system",
    "warning",
    "message",
    "the row has several system messages; many chat templates refuse all but the first, or drop them",
    "Join them into one at the start.",
    fix="joins them into the first",
)
SYSTEM_NOT_FIRST = Rule(
    "system-not-first",
    "warning",
    "message",
    "the system message is not the first; many chat templates refuse or drop it there",
    "Move it to the start.",
    fix="moves it to the start",
)

RULES = (
    UNKNOWN_FORMAT,
    MISSING_MESSAGES,
    UNKNOWN_ROLE,
    MISSING_CONTENT,
    EMPTY_ANSWER,
    EMPTY_CONTENT,
    CONTENT_PARTS,
    UNKNOWN_KEY,
    LOST_KEY,
    BAD_WEIGHT,
    BAD_TOOLS,
    BAD_TOOL_CALL,
    UNDECLARED_TOOLS,
    TOOL_RESULT_WITHOUT_CALL,
    NO_USER,
    NO_ASSISTANT,
    NOTHING_TRAINED,
    LAST_NOT_ASSISTANT,
    ASSISTANT_FIRST,
    SAME_ROLE_TWICE,
    SEVERAL_SYSTEM,
    SYSTEM_NOT_FIRST,
)
