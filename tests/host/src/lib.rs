//! Host stories: a whole machine with a scripted CPU.
