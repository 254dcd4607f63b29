"""The judges' prompt texts: aspects and wording of UltraFeedback (Cui et al., 2023), in Korean and English."""
