"""Which shape a row has, and how other shapes become OpenAI's."""
