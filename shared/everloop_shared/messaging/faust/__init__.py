"""The Faust engine, for keyed state; nothing else imports Faust."""
