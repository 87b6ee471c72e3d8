"""Pure rules of serving: who answers, what is remembered, what version 0 says."""
