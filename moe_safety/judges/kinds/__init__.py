"""The kinds of judge, a file each: its settings, what it does, and its declaration. None of them brings its libraries
along before it is used."""
