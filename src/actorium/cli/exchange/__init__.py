"""Taking what a user has out of one API into a folder, and from there into another: ours, or any Apify API."""
