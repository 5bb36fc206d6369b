"""The web app and the console command."""
