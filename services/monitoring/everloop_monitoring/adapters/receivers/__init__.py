"""Those who are told of alerts: Slack, webhooks, Alertmanager and e-mail, as the operator's file names them."""
