"""Completion to reward: graders per domain, the five tiers, and WA-GRPO."""
