"""What is seen: boards, pages and the front end, which reach data by HTTP only."""
