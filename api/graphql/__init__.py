"""GraphQL: Strawberry's types on a view of our own."""
