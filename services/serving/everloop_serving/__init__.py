"""serving: predicts, by REST and from the topic, with champion, canary and shadows."""
