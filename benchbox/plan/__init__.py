"""What will run: suite files become cases, profile files become hardware facts."""
