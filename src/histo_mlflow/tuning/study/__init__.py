"""What a study is: its file, the space that it searches, who proposes and who prunes."""
