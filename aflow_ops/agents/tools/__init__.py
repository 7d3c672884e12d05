"""What agents can use: a retriever, documents to read, a repository and its tests."""
