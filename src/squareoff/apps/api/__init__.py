"""The API: what people and programs see and ask for over HTTP. A process of its own; nothing here trades."""
