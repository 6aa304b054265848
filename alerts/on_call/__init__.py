"""Who is on call: schedules with rotations and overrides, and whom to tell in which order."""
