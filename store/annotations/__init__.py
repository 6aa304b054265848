"""What people and deploys did to the shop: the changes that a cause is looked for among."""
