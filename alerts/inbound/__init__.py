"""What paging services say to Warroom: who took an incident, who ended it."""
