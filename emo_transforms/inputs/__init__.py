"""From what the user named to videos: tables, folders, crops, people folders. Knows files, opens no video."""
