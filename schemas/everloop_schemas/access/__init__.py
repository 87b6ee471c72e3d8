"""Who may do what, as data: roles, actions, and the action of each route; `everloop roles` prints it."""
