"""The read side: live stream, SQL, experiments, and the page that shows them."""
