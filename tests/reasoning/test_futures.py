from vidreason.reasoning.futures import event_time_question


def test_the_question_for_an_events_time_holds_the_event():
    question = "In how many seconds will this happen: the red ball hits the wall?"
    assert event_time_question("the red ball hits the wall") == question
    assert event_time_question(" the red ball hits the wall.") == question
