"""Answers about media from stored questions, media and answers: types, votes, a kernel ridge, their blend. Pure."""
