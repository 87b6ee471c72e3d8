"""Pure rules of serving: which version predicts, what is remembered, and the statistics behind version 0."""
